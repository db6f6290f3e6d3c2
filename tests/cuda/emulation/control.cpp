// How tests steer the emulation.
#include "cuda_runtime.h"

extern "C" void run_backwards(int yes) { emulation::reversed = yes != 0; }
extern "C" void fail_next_launch() { emulation::next_launch = cudaErrorInvalidConfiguration; }
