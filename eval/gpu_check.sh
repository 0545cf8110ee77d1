#!/usr/bin/env bash
# Everything that needs a GPU, in one call of under ten minutes: tests, the gate on CUDA, benches, every stage end to end.
#
#   OUT=folder WHEELS=folder PYTHON=python3 eval/gpu_check.sh
#
# OUT (default runs/gpu_check) receives one log per step, the JSON files, and summary.json. WHEELS: wheels to install first, without an
# index, for machines without one. QUICK=1 shrinks every step, so that the script itself is exercised on a CPU. A failing step does not stop
# the others; the exit code is the number of steps that failed.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=$(mkdir -p "${OUT:-runs/gpu_check}" && cd "${OUT:-runs/gpu_check}" && pwd)
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH=$PWD TOKENIZERS_PARALLELISM=false HYDRA_FULL_ERROR=1
QUICK=${QUICK:-0}
failed=0

if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --find-links "$WHEELS" "$WHEELS"/*.whl || exit 99
fi
device=$("$PYTHON" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")') || exit 98
[ "$device" = cuda ] || [ "$QUICK" = 1 ] || { echo "no GPU found: QUICK=1 runs small sizes on the CPU"; exit 97; }
: > "$OUT/steps.txt"

step() { # name, limit in seconds, command...
  local name=$1 limit=$2 begin=$SECONDS code
  shift 2
  timeout "$limit" "$@" > "$OUT/$name.log" 2>&1
  code=$?
  [ $code -eq 0 ] || failed=$((failed + 1))
  echo "$name $code $((SECONDS - begin))" >> "$OUT/steps.txt"
  echo "$name: $([ $code -eq 0 ] && echo passed || echo "FAILED with code $code, see $OUT/$name.log") ($((SECONDS - begin)) s)"
}

benches="steps batch costs"
if [ "$QUICK" = 1 ]; then
  step steps 120 "$PYTHON" -m eval bench steps vocabularies=4000 shares=0.25 rounds=3 compile=false
  step batch 120 "$PYTHON" -m eval bench batch sizes=1,2 tokens=6
  step costs 120 "$PYTHON" -m eval bench costs prompts=2 tokens=8 rounds=3 lengths=2 shapes=false
else
  benches="$benches verify redistribution stop"
  step tests 120 "$PYTHON" -m pytest -q -m gpu tests/gpu
  step gate 240 "$PYTHON" -m eval lossless "device=$device" "runs=$OUT/runs"
  step steps 60 "$PYTHON" -m eval bench steps compile=false
  step verify 60 "$PYTHON" -m eval bench verify
  step redistribution 60 "$PYTHON" -m eval bench redistribution
  step stop 30 "$PYTHON" -m eval bench stop
  step batch 60 "$PYTHON" -m eval bench batch sizes=1,2,4,8,16,32,64
  step costs 90 "$PYTHON" -m eval bench costs prompts=4 rounds=3 lengths=1,3
  step pipeline 240 "$PYTHON" -m pipeline experiment=demo "device=$device" "runs_dir=$OUT/runs"
fi
for name in $benches; do cp -f "runs/bench/$name.json" "$OUT/"; done
find "$OUT/runs" \( -name certificate.json -o -name report.json \) -path '*/[el]*/*' -exec cp {} "$OUT/" \; 2>/dev/null

"$PYTHON" - "$OUT" "$device" << 'END'
import json, sys
from pathlib import Path
from eval.bench.output import environment
out, device = Path(sys.argv[1]), sys.argv[2]
rows = [line.split() for line in (out / "steps.txt").read_text().splitlines()]
steps = {name: {"passed": code == "0", "code": int(code), "seconds": int(seconds)} for name, code, seconds in rows}
(out / "summary.json").write_text(json.dumps({"device_type": device, "steps": steps} | environment(), indent=2) + "\n")
END
echo "$OUT/summary.json"
exit $failed
