"""How today's transformers were trained, and what tables of several families take from that. Imports no torch."""

PRECISIONS = ("bf16", "fp32")
"""In fp16 their numbers overflow: only where it is asked for by name."""
AREA = 1024 * 1024
"""Pixels of the pictures that they make and see."""
LEAST_SIDE = 64
LONGEST_ASPECT = 4
"""Of a picture that is edited, in pixels, and of its longer side to the shorter."""
ROWS_OF_EDIT = 2
"""Of guidance: the prompt's and the negative one's."""
