"""The parts of layer_stack.py, one idea a file."""
