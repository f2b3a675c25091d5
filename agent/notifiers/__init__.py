"""How dependents are told. `interface.py` is the contract; who is told when is `dispatch.py`'s business."""
