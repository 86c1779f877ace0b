"""Shapes of models, and what their layers need of memory. Plain arithmetic, without torch."""
import dataclasses

GIB = 1 << 30
ELEMENT = 2  # bytes of bf16, in which weights, windows and host rows are
# Bytes of an index per token and KV head: codes of sketches in 2 bits a dimension with what comes with each; tables of
# MagicPIG's size. `all` and `topk` have none.
INDEX_BYTES = {"sketch": lambda dim: dim / 4 + 6, "sketch_topk": lambda dim: dim / 4 + 6, "lsh": lambda dim: 345.0}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A decoder's layers: attention of grouped heads, and a gated MLP."""
    layers: int
    hidden: int
    intermediate: int
    q_heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float

    def weights(self) -> dict[str, tuple[int, int]]:
        """The products of a layer, (outputs, inputs) each; K and V lie behind Q, and up behind gate."""
        return {"qkv": ((self.q_heads + 2 * self.kv_heads) * self.head_dim, self.hidden),
                "o": (self.hidden, self.q_heads * self.head_dim),
                "gate_up": (2 * self.intermediate, self.hidden), "down": (self.hidden, self.intermediate)}

    def weight_bytes(self) -> int:
        """Of one layer, without its two norms."""
        return ELEMENT * sum(outputs * inputs for outputs, inputs in self.weights().values())

    def kv_bytes(self) -> int:
        """Of one token in one layer."""
        return 2 * ELEMENT * self.kv_heads * self.head_dim


MODELS = {
    "llama-3.1-8b": Shape(32, 4096, 14336, 32, 8, 128, 5e5),
    "tiny": Shape(4, 256, 512, 4, 2, 64, 1e4),  # for tests
}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a stack needs: in host memory, of each distinct sequence and of all else; and on the GPU."""
    cache: int  # rows and index of one distinct sequence
    sequences: int
    other: int  # host memory
    device: int

    @property
    def host(self) -> int:
        return self.cache * self.sequences + self.other


def memory_of(shape: Shape, *, layers: int, context: int, window: int, batch: int, sequences: int, selector: str,
              on_gpu: bool) -> Memory:
    """Of `sequences` distinct caches, of which the others of the batch are forks. Windows are never shared once a token has
    been appended; rows that they hold are counted for the host tier as well, which they come to."""
    index = INDEX_BYTES.get(selector, lambda dim: 0.0)(shape.head_dim)
    cache = layers * context * (shape.kv_bytes() + int(shape.kv_heads * index))
    windows = batch * layers * (window + 64) * shape.kv_bytes()
    weights = layers * shape.weight_bytes()
    scratch = GIB // 4
    on_device = weights + windows
    return Memory(cache, sequences, scratch + (0 if on_gpu else on_device), on_device + scratch if on_gpu else 0)


def sequences_that_fit(memory: Memory, free: int) -> int:
    """Distinct caches for which `free` bytes of host memory are enough."""
    return max(0, int((free - memory.other) // memory.cache))


def layers_that_fit(memory: Memory, layers: int, free: int) -> int:
    """Of `layers`, with all sequences: what a stack needs grows with its layers."""
    return max(0, int(layers * (free - GIB // 4) // max(1, memory.host - GIB // 4)))


def refusal(memory: Memory, layers: int, free: int) -> str:
    """Why `free` bytes of host memory are not enough, with figures, and what would be; empty where they are."""
    if memory.host <= free:
        return ""
    fits, few = sequences_that_fit(memory, free), layers_that_fit(memory, layers, free)
    ways = ([f"--sequences {fits} (the others of the batch are then forks, which share rows)"] if fits else []) + (
        [f"--layers {few}"] if few else []) + ["a shorter --context"]
    return (f"{memory.sequences} caches of {memory.cache / GIB:.1f} GiB and {memory.other / GIB:.1f} GiB beside them need "
            f"{memory.host / GIB:.1f} GiB of host memory, of which {free / GIB:.1f} GiB can be had; allowed: " + ", or ".join(ways))
