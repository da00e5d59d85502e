"""Settings of pytest's processes that must be there before NumPy and TensorFlow are imported."""

import gc
import os
import sys

if "pytest" in sys.modules:
    # As many processes as processors run at once; threads of BLAS would only wait for each other.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    gc.disable()  # while modules are imported: going through their objects again and again takes seconds
