"""A card that is not there: CUDA kernels run on the processor, thread by thread.

``block.hpp`` is what the kernels' source needs to be a C++ program, in which the threads of a
block take turns. ``cupy`` stands in for CuPy: its arrays are NumPy's. So everything that is said to
a card is said, in its order, and what comes back can be held against float64.
"""
