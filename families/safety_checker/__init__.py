"""diffusers' safety checker: an engine beside a family's own that looks at every picture before it is answered.

It compares CLIP's view of a picture with embeddings of concepts, and refuses what is nearer to one than a threshold, as
`StableDiffusionSafetyChecker` does. It knows its concepts alone, errs both ways, and sees neither prompts nor inputs.
"""

NAME = "safety_checker"
"""Of the engine, and of the checkpoint's sub-folder."""
RULE, PIXELS = "safety_rule", "safety_pixels"
"""Of tensors: how a picture is prepared, as JSON; the prepared picture."""
SPECIAL, CONCEPTS = "special_cosines", "concept_cosines"
"""Of the engine's outputs: how near the picture is to each of the concepts."""
