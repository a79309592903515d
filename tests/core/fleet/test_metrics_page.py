"""Readings of metrics pages: a recorded one, those of other engines, and pages that are broken or lie."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.metrics_page import MAX_SAMPLES, read_page

RECORDED: Final = Path(__file__).parents[2] / "recorded/metrics_0.33.0.txt"

SGLANG: Final = b"""
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",pp_rank="0",priority=""} 4.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="1",pp_rank="0",priority=""} 4.0
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0",pp_rank="0",priority="5"} 3.0
sglang:num_queue_reqs{engine_type="unified",model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.25
sglang:max_total_num_tokens{model_name="m"} 161721.0
sglang:num_running_reqs_offline_batch{model_name="m"} 77
sglang:inter_token_latency_seconds_sum{model_name="m"} 1.5
sglang:inter_token_latency_seconds_count{model_name="m"} 100
"""
TRTLLM: Final = b"""
trtllm_num_requests_running{model_name="m",engine_type="trtllm"} 2
trtllm_num_requests_waiting{model_name="m",engine_type="trtllm"} 1
trtllm_kv_cache_utilization{model_name="m",engine_type="trtllm"} 0.62
trtllm_kv_cache_max_blocks{model_name="m"} 1000
trtllm_kv_cache_tokens_per_block{model_name="m"} 32
trtllm_time_per_output_token_seconds_count{model_name="m"} 7
"""
TWO_RANKS: Final = b"""
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.4
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="10"} 1.0
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="10"} 1.0
vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="1",sleep_state="awake"} 0.0
"""


def read(text: bytes, *models: str) -> EngineGauges:
    reading = read_page(text, 100.0, 2, models)
    assert reading is not None
    return reading


def test_recorded_page_of_a_busy_engine_with_an_adapter() -> None:
    reading = read(RECORDED.read_bytes(), "meta-llama/tiny", "base2", "ad1")

    assert reading == EngineGauges(
        at=100.0, own=2, running=6.0, waiting=0.0, kv_usage=0.011741682974559686, cache_tokens=65536, block_tokens=128,
        keeps_prefixes=True, asleep=False, running_adapters=frozenset({"ad1"}),
        waiting_adapters=frozenset({"ad1"}), max_adapters=2, preemptions=0.0, rejections=0.0,
        cache_queries=21.0, cache_hits=0.0, prompt_tokens=21.0, generation_tokens=13.0, first_tokens=6.0,
        first_token_seconds=1.1515579223632812, token_gaps=7.0, token_gap_seconds=0.3365702289993351,
    )  # fmt: skip


def test_page_of_sglang_counts_one_rank_of_a_model_and_no_shares_by_priority() -> None:
    reading = read(SGLANG)

    assert (reading.running, reading.waiting, reading.kv_usage, reading.cache_tokens) == (4.0, 3.0, 0.25, 161721)
    assert (reading.token_gaps, reading.token_gap_seconds) == (100.0, 1.5)
    assert (reading.asleep, reading.preemptions) == (None, None)


def test_page_of_tensorrt_llm() -> None:
    reading = read(TRTLLM)

    assert (reading.running, reading.waiting, reading.kv_usage) == (2.0, 1.0, 0.62)
    assert (reading.cache_tokens, reading.block_tokens, reading.token_gaps) == (32_000, 32, 7.0)


def test_ranks_behind_one_port_are_added_but_for_parts_of_a_whole_and_one_that_sleeps() -> None:
    reading = read(TWO_RANKS)

    assert reading.running == 3.0
    assert reading.kv_usage == pytest.approx(0.3)
    assert (reading.cache_tokens, reading.block_tokens, reading.asleep) == (320, 16, True)


def test_an_engine_without_prefix_caching_says_so() -> None:
    page = b'vllm:num_requests_running 1\nvllm:cache_config_info{block_size="16",enable_prefix_caching="False"} 1.0\n'

    assert read(page).keeps_prefixes is False
    assert read(SGLANG).keeps_prefixes is None


def test_of_the_series_of_adapters_the_newest_counts() -> None:
    page = (
        b"vllm:num_requests_running 1\n"
        b'vllm:lora_requests_info{max_lora="2",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e9\n'
        b'vllm:lora_requests_info{max_lora="2",running_lora_adapters="a,b\\"c",waiting_lora_adapters="d"} 1.8e9\n'
        b'vllm:lora_requests_info{max_lora="2",running_lora_adapters="older",waiting_lora_adapters=""} 1.6e9\n'
    )
    reading = read(page)

    assert reading.running_adapters == {"a", 'b\\"c'}
    assert reading.waiting_adapters == {"d"}
    assert reading.max_adapters == 2


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "-Inf", "", "many", "1e400", "1e12", "0x10"])
def test_a_value_that_makes_no_sense_is_absent_and_the_others_count(value: str) -> None:
    page = f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 3\nvllm:kv_cache_usage_perc {value}\n"
    reading = read(page.encode())

    assert (reading.running, reading.waiting, reading.kv_usage) == (None, 3.0, None)


def test_a_usage_in_per_cent_is_absent_and_one_that_is_rounded_up_is_full() -> None:
    assert read(b"vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 45.0\n").kv_usage is None
    assert read(b"vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 1.0000001\n").kv_usage == 1.0


def test_a_last_line_without_an_end_was_cut() -> None:
    reading = read(b"vllm:num_requests_waiting 4\nvllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.0")

    assert (reading.waiting, reading.kv_usage) == (4.0, None)


@pytest.mark.parametrize(
    "page",
    [b"", b"\n", b"<html></html>\n", b"envoy_server_live 1\n", b"# HELP vllm:num_requests_running\n", b"\xff" * 9],
    ids=["empty", "newline", "html", "envoy", "help", "bytes"],
)  # fmt: skip
def test_a_page_of_no_engine_is_no_reading(page: bytes) -> None:
    assert read_page(page, 100.0) is None


def test_a_page_of_several_engines_counts_for_the_models_of_this_one() -> None:
    page = (
        b'vllm:num_requests_running{model_name="mine"} 1\nvllm:num_requests_running{model_name="other"} 5\n'
        b'vllm:num_requests_waiting{model_name="other"} 7\n'
    )

    assert read(page, "mine", "alias").running == 1.0
    assert read(page, "mine").waiting is None
    assert read_page(page, 100.0, 0, ["third"]) is None


def test_a_page_without_end_is_read_up_to_a_bound() -> None:
    page = b'vllm:lora_requests_info{max_lora="1"} 1\n' * (MAX_SAMPLES + 10) + b"vllm:num_requests_running 1\n"

    assert read(page).running is None


@given(st.binary(max_size=400), st.integers(0, 3000))
def test_no_page_raises(garbage: bytes, place: int) -> None:
    page = RECORDED.read_bytes()[5000:9000]
    read_page(page[:place] + garbage + page[place:], 100.0, 0, ["m"])
    read_page(b"vllm:num_requests_running{" + garbage + b"} 1\nvllm:cache_config_info{" + garbage + b"\n", 100.0)
