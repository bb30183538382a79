"""Picture files: what is read of JPEG, PNG and WebP, and what their numbers mean as colours.

`families.picture` is the door. Each format's module splits a file into a file of pixels alone, which is all that
Pillow sees, and what lies beside them: so that nothing beside the pixels, broken or too large, costs the picture.
"""
