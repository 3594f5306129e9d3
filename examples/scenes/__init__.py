"""Detection data sets composed of cut-out objects on photographs, as a plugin (docs/plugins.md).

``bisector detect compare --data examples/scenes/scenes.py:size=128 --heads linear-softmax,igam``
"""
