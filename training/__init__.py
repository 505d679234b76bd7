"""Offline tools: simulator, training, calibration, evaluation."""

import logging

# Said by bitsandbytes, which peft imports wherever it is installed: a kernel for 4-bit products on processors
# is not there. QLoRA asks for a CUDA device here, so nobody misses it.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in record.getMessage()
)
