"""The benches on a real vLLM run to their end, on a model and a workload that are as small as they can be.

What they measure here means nothing; that they measure both sides, and report all that the reports need, does.
"""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.servers, pytest.mark.timeout(900)]

ENGINE = "--asks 2 --pause 0 --streams 2 --each 1 --rounds 1 --max-tokens 4 --words 20"
PREFIX = "--tenants 4 --questions 3 --tokens 300 --max-tokens 2"


def test_bench_gpu_runs_both_benches_and_says_what_they_ran_on() -> None:
    command = [sys.executable, "-m", "loadtest.bench_gpu", "--hidden", "64", "--layers", "2"]
    command += ["--dtype", "float32", "--eager", "--setting", "max_num_seqs=4", "--engine", ENGINE, "--prefix", PREFIX]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["model"] == "random 64x2"
    assert said["vllm"].startswith("vllm")
    engine, prefix = said["engine"], said["prefix"]
    assert engine["direct_ttft_p50_ms"] > 0 < engine["ttft_p50_ms"]
    assert engine["tokens_per_s_share"] == pytest.approx(
        engine["tokens_per_s"] / engine["direct_tokens_per_s"], rel=0.01
    )
    assert 0 < prefix["round_robin_hit_rate"] < prefix["hit_rate"] <= prefix["oracle_hit_rate"] + 0.01
    assert prefix["oracle_ratio"] > 0.9
    assert prefix["ttft_vs_warm"] > 0
    assert all(cached > 5000 for cached in prefix["chart_cached_tokens"][1:])
