"""How kernels are compiled: without Python's lock, kept on disk.

`kernel` is what Python calls, `inner` what kernels call, and `reduction` an inner function whose sums may be
reordered, so that they run in vectors. Nowhere may numbers be assumed finite: a loss that is not must be
seen.
"""

from numba import njit

FLAGS = {"contract", "nsz", "arcp"}

kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath=FLAGS, boundscheck=False)
inner = njit(nogil=True, error_model="numpy", fastmath=FLAGS, boundscheck=False)
reduction = njit(nogil=True, error_model="numpy", fastmath={*FLAGS, "reassoc"}, boundscheck=False)
