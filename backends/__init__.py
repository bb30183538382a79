"""Engine runtimes as Python-based Triton backends, and what export's check shares with them.

Each folder with a ``model.py`` is a backend, under the name that ``config.pbtxt`` gives it. Imports nothing else of
ours: the modules beside the folders travel into each backend as this package. It has an ``__init__.py`` so that no
mere folder of its name on Python's path is taken for it.
"""
