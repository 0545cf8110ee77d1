#!/usr/bin/env bash
# What a real pair is worth on this machine, suite by suite, in pieces that go on where they were stopped.
#
#   TARGET=folder DRAFTER=folder CORPUS=file_or_folder PROMPTS=folder eval/real_check.sh [piece ...]
#
# Pieces, in this order where none is named: curve speed speed_bf16 identity likelihood disco. PROMPTS holds gsm8k_test.jsonl,
# mt_bench_question.jsonl and HumanEval.jsonl.gz as they are published. SUITES (default: gsm8k mt_bench humaneval languages) are those
# that are measured; OUT (default runs/real) receives one JSON file per piece and suite, and logs. What lies in OUT already is not made
# again. Budgets are those of conf/experiment/real_pair.yaml; MORE holds further settings of the stages. COUNT: prompts of each suite on
# which outputs are compared at T = 0; SCORED: of which their likelihood is taken at T = 1, few scatter more than its limit allows for.
# The exit code is the number of failures.
set -uo pipefail
cd "$(dirname "$0")/.."
: "${TARGET:?the folder of the target}" "${DRAFTER:?the folder of the drafter}" "${CORPUS:?text to count and to fit to}" "${PROMPTS:?the folder of the suites}"
OUT=${OUT:-runs/real}
RUNS=${RUNS:-runs}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
SUITES=${SUITES:-gsm8k mt_bench humaneval languages}
export PYTHONPATH=$PWD OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
mkdir -p "$OUT"
failed=0

rows() { # suite: the local copy of its rows; none for an embedded suite
  case $1 in
    gsm8k) echo "$PROMPTS/gsm8k_test.jsonl" ;;
    mt_bench) echo "$PROMPTS/mt_bench_question.jsonl" ;;
    humaneval) echo "$PROMPTS/HumanEval.jsonl.gz" ;;
  esac
}

suite() { # suite: the settings of a stage that name it
  local file
  file=$(rows "$1")
  echo "suite=$1 ${file:+suite.path=$file}"
}

further() { # option, suites: the settings of further suites
  local option=$1 name file
  for name in $2; do
    file=$(rows "$name")
    echo "+$option.$name=${file:-null}"
  done
}

piece() { # name of the result, label of the line that says where it lies, command...
  local name=$1 label=$2 begin=$SECONDS log="$OUT/$1.log" made
  shift 2
  [ -e "$OUT/$name.json" ] && { echo "$name: there already"; return; }
  if "$@" > "$log" 2>&1 && made=$(sed -n "s/^$label: //p" "$log" | tail -1) && [ -n "$made" ]; then
    [ -d "$made" ] || made=${made%.*}
    cp "${made}.json" "$OUT/$name.json"
    echo "$name: $((SECONDS - begin)) s"
  else
    failed=$((failed + 1))
    echo "$name: FAILED, see $log ($((SECONDS - begin)) s)"
  fi
}

stage() { # name, settings...
  # shellcheck disable=SC2086
  "$PYTHON" -m pipeline stage="$1" pair=local pair.target="$TARGET" pair.drafter="$DRAFTER" corpus.path="$CORPUS" \
    experiment=real_pair runs_dir="$RUNS" ${MORE:-} "${@:2}"
}

# All but rdk_exact, which is rdk's law by a matrix of kept x V numbers.
SAMPLERS=standard,exact_match,union,tli,slem,slrs,rdk,block,rrs,rrs_wor,kseq,greedy,traversal,race,race_tree,tail

outputs() { # command, suite, prompts: what every sampler says in fp32
  local package file
  package=$(stage package | sed -n 's/^package *\(ran [^/]*\|reused *\)\(\/.*\)$/\2/p' | tail -1)
  file=$(rows "$2")
  "$PYTHON" -m eval "$1" target="$TARGET" drafter="$DRAFTER" foreign= package="$package" suite="$2" ${file:+path="$file"} \
    prompts="$3" samplers=$SAMPLERS tokens=64 batch=16 lookahead=3 out="$RUNS/$1"
}

for what in ${@:-curve speed speed_bf16 identity likelihood disco}; do
  case $what in
    # shellcheck disable=SC2046
    curve) piece curve curve stage sweep $(further sweep.suites "$SUITES") ;;
    # shellcheck disable=SC2046
    disco) piece train_disco report stage train-disco $(suite gsm8k) $(further train_disco.suites "${SUITES#gsm8k}") ;;
    speed | speed_bf16 | identity | likelihood)
      for name in $SUITES; do
        # shellcheck disable=SC2046
        case $what in
          speed) piece "eval_$name" report stage eval $(suite "$name") ;;
          speed_bf16) piece "eval_bf16_$name" report stage eval dtype=bf16 $(suite "$name") ;;
          identity) piece "identity_$name" identity outputs identity "$name" "${COUNT:-13}" ;;
          likelihood) piece "nll_$name" nll outputs likelihood "$name" "${SCORED:-32}" ;;
        esac
      done ;;
    *) echo "$what: no such piece; choose from: curve speed speed_bf16 identity likelihood disco"; exit 2 ;;
  esac
done
exit $failed
