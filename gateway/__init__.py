"""The gateway: `POST /v1/images/edits` over HTTP in, one request to Triton's `edit` model out.

It knows the tensor names of `edit` and nothing of models, families or engines.
"""
