"""What whole searches ask to be computed, recorded and compared. No search here trains or measures anything."""

import os

# Read when numpy is loaded: of proposals that promise the same, the sampler takes the one that is ahead in the last
# binary digit, and orders of equal numbers follow the instructions too. With those that all processors have, all agree.
os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR")
