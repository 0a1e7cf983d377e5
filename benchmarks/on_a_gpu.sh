#!/usr/bin/env bash
# What to ask a GPU the first time, in three parts of at most ten minutes each:
#
#     bash benchmarks/on_a_gpu.sh check     every kernel and training run of the tests, on the device
#     bash benchmarks/on_a_gpu.sh speed     benchmarks/gpu.py beside PyTorch, and its table kept
#     bash benchmarks/on_a_gpu.sh train     nanoGPT's recipe and the best preset, on Shakespeare
#
# Needs CuPy, pytest, hypothesis and what tinygpt needs; no network, but TINYGPT_DATA then names a
# folder with tinyshakespeare.txt. All is kept in the folder RESULTS (benchmarks/results).
set -uo pipefail
cd "$(dirname "$0")/.."
results=${RESULTS:-benchmarks/results}
python=${PYTHON:-python3}
mkdir -p "$results"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1

# One process for each group: a kernel that writes where it must not spoils those after it. Where a
# group fails, the memory checker that comes with CUDA is asked about its first failure.
check() {
    nvidia-smi
    for group in "kernels/test_gemm.py" "kernels/test_twins.py -k not(attention)" \
        "kernels/test_twins.py -k attention" "kernels/test_precision.py" \
        "kernels/test_training.py" "kernels/test_recorded_step.py" "test_devices.py"; do
        file=${group%% *} only=()
        [ "$file" != "$group" ] && only=(-k "$(sed 's/.* -k //; s/[()]/ /g' <<< "$group")")
        run=(-m pytest -m gpu -W default --tb=short -rfEs "tests/$file" "${only[@]}")
        echo "== $group"
        timeout 110 "$python" "${run[@]}" && continue
        command -v compute-sanitizer > /dev/null || continue
        timeout 40 compute-sanitizer --tool memcheck "$python" "${run[@]}" -x --lf
    done
}

speed() {
    "$python" benchmarks/gpu.py --save "$results" "$@"
}

train() {
    for preset in nanogpt "nanogpt --graph" best "best --graph"; do
        echo "== $preset"
        # shellcheck disable=SC2086
        "$python" examples/train_shakespeare.py --preset $preset --device cuda \
            --precision bfloat16 --time-limit 140 --out "$(mktemp -d)/run" "$@"
    done
}

part=${1:-}
case $part in
    check | speed | train) shift && time "$part" "$@" 2>&1 | tee "$results/$part.txt" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
