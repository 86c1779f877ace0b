"""Asks a llama-server with two slots what a program would ask."""
import concurrent.futures
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

ANSWER_TOKENS = 24
TIE = 0.02  # in logits; what rounds differently moves them by less than 0.01
TIMEOUT_S = 300


def ask(url, prompt):
    """The tokens that greedily follow the prompt, each with what it is ahead of the second best, in logits."""
    request = {
        "prompt": prompt,
        "n_predict": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": True,
        "n_probs": 2,
    }
    http = urllib.request.Request(url + "/completion", json.dumps(request).encode(),
                                  {"Content-Type": "application/json"})
    with urllib.request.urlopen(http, timeout=TIMEOUT_S) as answer:
        tokens = json.load(answer)["completion_probabilities"]
    return [(token["id"], token["top_logprobs"][0]["logprob"] - token["top_logprobs"][1]["logprob"]) for token in tokens]


def first_difference(expected, answer):
    """Where an answer leaves the expected one, and whether at a tie, behind which nothing can be compared; (None, False)
    if nowhere."""
    for i, ((token, ahead), (other, _)) in enumerate(zip(expected, answer)):
        if token != other:
            return i, ahead < TIE
    return None, False


def ask_all(url, prompts):
    """Answers to prompts one after the other, two at a time, with the beginnings of earlier ones, and to prompts that
    the server has put aside meanwhile. prompts: six dictionaries with context and question."""
    texts = [p["context"] + p["question"] for p in prompts]
    # The same contexts with other questions: only their ends are read, the rest is in the slots.
    reused = [prompts[1]["context"] + prompts[2]["question"], prompts[2]["context"] + " The pass key is "]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [ask(url, texts[0])]
        for together in (texts[1:3], reused, texts[3:6], texts[0:2]):
            answers += pool.map(lambda text: ask(url, text), together)
    return answers


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def serving(command, log, environment):
    """Runs a llama-server; yields its address when it answers."""
    port = free_port()
    with open(log, "wb") as output:
        server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment})
        url = f"http://127.0.0.1:{port}"
        try:
            end = time.monotonic() + TIMEOUT_S
            while True:
                try:
                    urllib.request.urlopen(url + "/health", timeout=TIMEOUT_S).close()
                    break
                except urllib.error.URLError:
                    if server.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(f"the server does not answer, see {log}") from None
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()
            server.wait(TIMEOUT_S)
