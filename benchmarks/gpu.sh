#!/usr/bin/env bash
# Times training steps on one NVIDIA GPU, with JAX and PyTorch.
#
#   pip install -e . && pip install -U "jax[cuda12]" torch
#   bash benchmarks/gpu.sh
#
# Writes one JSON file a configuration, machine.txt and log.txt to benchmarks/results/gpu/.
# Each configuration is a process of its own: one that runs out of memory is named in log.txt and
# the next one starts with an empty GPU. A configuration whose file exists already is skipped, so
# that the script can be run again after an interruption.
#
# Where time is short, parts can be run one by one; defaults in brackets:
#   BACKENDS    "jax torch"
#   PRECISIONS  "float32 mixed_bfloat16"
#   BATCHES     "16 64 256"
#   SECONDS_EACH  600; a configuration that takes longer is stopped
#   RESULTS     benchmarks/results/gpu
set -uo pipefail # no -e: a configuration may fail
cd "$(dirname "$0")/.."

backends=${BACKENDS:-jax torch}
precisions=${PRECISIONS:-float32 mixed_bfloat16}
batches=${BATCHES:-16 64 256}
seconds_each=${SECONDS_EACH:-600}
results=${RESULTS:-benchmarks/results/gpu}
mkdir -p "$results"
failures=0

# JAX takes 75 % of the memory by default and PyTorch all; so that both run out at the same size:
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.95
# TensorFlow, if it is installed, is only used for reading images here.
export TF_CPP_MIN_LOG_LEVEL=3

log() { printf '%s  %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" | tee -a "$results/log.txt"; }

sees_gpu() {
  case $1 in
    jax) python -c 'import jax, sys; sys.exit(jax.default_backend() != "gpu")' ;;
    torch) python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' ;;
    *) return 1 ;;
  esac 2>/dev/null
}

# measure BACKEND NAME COMMAND...: the command writes $results/NAME.json. What it says goes to
# log.txt only if it fails.
measure() {
  local backend=$1 name=$2 said code
  shift 2
  if [ -s "$results/$name.json" ]; then
    log "$name: has a result already, skipped"
    return
  fi
  said=$(mktemp)
  KERAS_BACKEND=$backend timeout "$seconds_each" "$@" --out "$results/$name.json" >"$said" 2>&1
  code=$?
  if [ "$code" -eq 0 ] && [ -s "$results/$name.json" ]; then
    log "$name: measured"
  else
    failures=$((failures + 1))
    rm -f "$results/$name.json" # half a file is no result
    if [ "$code" -eq 124 ]; then
      log "$name: FAILED, stopped after $seconds_each seconds"
    elif grep -qiE 'out of memory|OutOfMemory|RESOURCE_EXHAUSTED' "$said"; then
      log "$name: FAILED, out of memory on the GPU"
    elif [ "$code" -eq 137 ]; then
      log "$name: FAILED, killed: perhaps out of memory on the host"
    else
      log "$name: FAILED, exit code $code"
    fi
    # The last lines say why; without folders, which are the machine's.
    tail -n 5 "$said" | sed -E 's#(/[^/ "]+)+/##g; s/^/    /' | cut -c1-300 >>"$results/log.txt"
  fi
  rm -f "$said"
}

# --- The machine ---
{
  date -u +%Y-%m-%dT%H:%M:%SZ
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  echo "cores: $(nproc)"
  echo "commit: $(git rev-parse HEAD 2>/dev/null || echo unknown)"
  python --version
  python -m pip list 2>/dev/null |
    grep -iE '^(keras|jax|jaxlib|jax-cuda[0-9]+-plugin|torch|tensorflow|numpy|pillow) '
} >"$results/machine.txt" 2>&1
cat "$results/machine.txt"
if ! nvidia-smi >/dev/null 2>&1; then
  log "no NVIDIA GPU: nothing measured"
  exit 1
fi

# --- Training steps ---
for backend in $backends; do
  if ! sees_gpu "$backend"; then
    log "$backend: not installed, or sees no GPU; left out, since it would measure the CPU"
    continue
  fi
  for precision in $precisions; do
    for batch in $batches; do
      # Ours and the stock layers take turns in one process, ResNet-50 has its own: where it runs
      # out of memory, the others still have a result. It gets the image size of the setting.
      for what in 640/64:ours,stock 640/64:resnet50 448/64:resnet50; do
        setting=${what%%:*} networks=${what#*:}
        name=$backend-${setting%/*}-${networks/,/-}-batch$batch-$precision
        measure "$backend" "$name" python benchmarks/step.py --setting "$setting" \
          --batch-size "$batch" --precision "$precision" --networks "$networks"
      done
    done
  done
  # --- Whether reading images keeps up with this GPU ---
  measure "$backend" "$backend-input" python benchmarks/input.py --batch-size 64 \
    --precision mixed_bfloat16 --steps 10
done

log "done: $(find "$results" -name '*.json' | wc -l) results in the folder, $failures failures now"
