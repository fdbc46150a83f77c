"""What is taken away, one at a time, and which test must fail then.

Each mutant replaces a text that stands exactly once in its file. It takes away one thing that a promise rests on.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`old` becomes `new` in the file `path`; `tests` are ids for pytest, of which one must fail."""

    name: str
    taken_away: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


_LOADER = "tests/tracker/test_loader.py::"
_SPOOL = "tests/tracker/test_spool.py::"
_APPEND = "tests/tracker/test_append_clicks.py::"
_CLAIM = "tests/tracker/test_claim_script.py::"
_CREDIT = "tests/attribution/test_credit.py::"
_BOOTSTRAP = "tests/console/test_bootstrap.py::"

MUTANTS = (
    # Exactly once in the tables
    Mutant(
        "anti_join",
        "after a crash nothing is compared with the tables",
        "tracker/loader.py",
        "if batch.is_replay or is_watched or position is None:",
        "if False:",
        (f"{_LOADER}test_a_batch_half_of_which_was_inserted_is_completed",),
    ),
    Mutant(
        "replay_compared",
        "rows out of a spool are not compared with the tables",
        "tracker/loader.py",
        "if batch.is_replay or is_watched",
        "if is_watched",
        (f"{_LOADER}test_a_replay_out_of_a_spool_adds_only_what_is_missing",),
    ),
    Mutant(
        "twice_in_batch",
        "rows are compared with the tables, and not with each other",
        "tracker/loader.py",
        "                    known.add(id)\n",
        "",
        (f"{_LOADER}test_a_replay_out_of_a_spool_adds_only_what_is_missing",),
    ),
    Mutant(
        "new_epoch",
        "a new epoch makes nobody careful",
        "tracker/loader.py",
        "                self._epochs[shard] = epoch\n                self.be_careful()\n",
        "                self._epochs[shard] = epoch\n",
        (f"{_LOADER}test_a_new_epoch_makes_the_loader_careful",),
    ),
    Mutant(
        "one_month_an_insert",
        "one insert holds two months: two commits",
        "tracker/loader.py",
        'return time.strftime("%Y%m", time.gmtime(day * 86_400))',
        'return ""',
        (f"{_LOADER}test_two_months_in_one_batch_are_two_inserts_and_half_of_them_is_completed",),
    ),
    Mutant(
        "slowest_reader",
        "entries are trimmed that another reader still needs",
        "tracker/ack.lua",
        "for i = 5, #ARGV do",
        "for i = 5, 4 do",
        (f"{_LOADER}test_nothing_is_trimmed_that_another_reader_still_needs",),
    ),
    # One at a time
    Mutant(
        "lease",
        "a role that is held can be taken",
        "schemas/hold.lua",
        "if holder or ARGV[3] ~= '1' then return 0 end",
        "if ARGV[3] ~= '1' then return 0 end",
        (f"{_LOADER}test_a_loader_waits_for_its_turn",),
    ),
    Mutant(
        "renewal",
        "nobody notices that his lease has gone to another",
        "schemas/lease.py",
        "if not self._ask(LEASE_MS, may_take=False):",
        "if self._ask(LEASE_MS, may_take=False) is None:",
        ("tests/schemas/test_lease.py::test_a_lease_that_ran_out_is_not_renewed_even_if_nobody_has_it",),
    ),
    Mutant(
        "read_ahead_for_another_position",
        "a loader inserts what it read ahead, though another has loaded it",
        "tracker/loader.py",
        "if ahead is not None and (ahead.position, ahead.epoch) == (position, self._epochs[stream.shard]):",
        "if ahead is not None:",
        (f"{_LOADER}test_what_was_read_ahead_is_let_go_where_it_is_not_what_comes_next",),
    ),
    Mutant(
        "read_ahead_from_another_run",
        "a loader inserts what it read ahead from a log server that is another since",
        "tracker/loader.py",
        "        self._ahead.clear()\n",
        "",
        (f"{_LOADER}test_what_was_read_ahead_from_another_run_of_the_log_server_is_let_go",),
    ),
    Mutant(
        "fence_of_loader",
        "a loader that slept through its lease acknowledges",
        "tracker/ack.lua",
        "if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return 0 end\n",
        "",
        (f"{_LOADER}test_a_loader_that_slept_in_an_insert_acknowledges_nothing",),
    ),
    Mutant(
        "fence_of_worker",
        "a worker that slept through its lease records decisions",
        "attribution/record_credits.lua",
        "if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return 0 end\n",
        "",
        ("tests/attribution/test_worker.py::test_a_worker_that_slept_through_its_lease_records_nothing",),
    ),
    Mutant(
        "fence_only_rises",
        "a holder that froze while taking the role lowers the fence",
        "schemas/raise_fence.lua",
        "if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 0 end\n",
        "",
        ("tests/schemas/test_lease.py::test_a_holder_that_froze_while_taking_it_lowers_no_fence",),
    ),
    # One order, one sale
    Mutant(
        "uniqueness",
        "an order that has just been claimed can be claimed",
        "tracker/claim.lua",
        "if claim ~= before then",
        "if false then",
        (f"{_CLAIM}test_of_two_that_see_an_order_free_one_claims_it",),
    ),
    Mutant(
        "claimed_and_reported_together",
        "what is reported of an order that somebody else has claimed is recorded beside the others",
        "tracker/claim.lua",
        "if not refused then return lines end",
        "if true then return lines end",
        (f"{_CLAIM}test_of_several_those_are_left_alone_that_are_not_as_they_were_thought_to_be",),
    ),
    Mutant(
        "touch_later_than_the_sale",
        "a sale is recorded with a click that another machine's clock has after it",
        "tracker/claim.lua",
        "newest[i], late = tonumber(ts), true",
        "newest[i] = tonumber(ts)",
        (f"{_CLAIM}test_nothing_is_recorded_with_a_touch_that_is_later_than_the_sale",),
    ),
    Mutant(
        "retry_after_years",
        "a retry is refused as too old as if its sale were not known",
        "tracker/conversions.py",
        "asked = [waiting.key for waiting in batch if waiting.report.is_dated_back]",
        "asked: list[str] = []",
        ("tests/tracker/test_conversions.py::test_what_is_dated_too_far_back_is_taken_where_it_is_known_by_that_time",),
    ),
    Mutant(
        "ready",
        "orders are claimed before the claims are known again",
        "tracker/claim.lua",
        "if not found[1] then return -1 end\n",
        "",
        (f"{_CLAIM}test_nothing_is_claimed_where_claims_are_not_known",),
    ),
    Mutant(
        "gone_back",
        "nobody looks whether a log server came back from an older copy",
        "console/bootstrap.py",
        "if has_gone_back(self._redis, self._client, shards):",
        "if False:",
        (f"{_BOOTSTRAP}test_a_server_that_came_back_from_an_older_copy_is_told_what_it_has_forgotten",),
    ),
    Mutant(
        "unknown_server",
        "a log server from an older copy takes reports until the engine has looked at it",
        "tracker/calls.py",
        "        if not is_noted(info, noted):",
        "        if False:",
        ("tests/tracker/test_calls.py::test_a_server_that_has_not_been_looked_at_since_it_started_takes_no_report",),
    ),
    Mutant(
        "unnoticed_restart",
        "the loader goes on where a log server from an older copy has come behind its back",
        "tracker/loader.py",
        "        if self._runs[stream.place] != known_run(self._redis, stream.place):",
        "        if False:",
        (f"{_LOADER}test_a_log_server_in_whose_place_another_has_come_is_not_loaded_until_it_was_looked_at",),
    ),
    Mutant(
        "forgotten_decisions",
        "what an older copy has forgotten is decided as if for the first time",
        "attribution/worker.py",
        'is_sure = position is not None and keys.entry_order(entries[0][0]) > keys.entry_order(unsure or "0-0")',
        "is_sure = position is not None",
        ("tests/attribution/test_worker.py::test_what_an_older_copy_has_forgotten_is_decided_by_the_tables",),
    ),
    # On disk before the answer
    Mutant(
        "fresh_projections",
        "what the engine does not fsync is not fsynced",
        "console/parts.py",
        "                        _fsync(path)\n",
        "                        pass\n",
        ("tests/console/test_parts.py::test_projections_are_fsynced_once",),
    ),
    Mutant(
        "forgotten_clicks_fsynced",
        "clicks that were changed when somebody was forgotten are not on the disk",
        "console/forget_tables.py",
        "            FreshParts(self._client).sync()\n",
        "",
        ("tests/console/test_parts.py::test_where_clicks_are_forgotten_the_sources_stay_until_the_change_is_fsynced",),
    ),
    Mutant(
        "settled_before_acknowledged",
        "the log lets go of rows that are not on the disk yet",
        "tracker/loader.py",
        "        self._settle()\n",
        "",
        (f"{_LOADER}test_the_log_lets_go_of_rows_when_they_are_settled",),
    ),
    Mutant(
        "fsync_of_spool",
        "a spooled event is acknowledged before the disk has it",
        "tracker/spool.py",
        "        os.fsync(descriptor)\n        if not size:",
        "        if not size:",
        (f"{_SPOOL}test_nobody_is_told_before_the_disk_has_it",),
    ),
    Mutant(
        "fsync_of_log",
        "a log server is taken that does not fsync every write",
        "console/bootstrap.py",
        '"appendfsync": "always", ',
        "",
        (f"{_BOOTSTRAP}test_a_server_that_can_lose_what_it_acknowledged_is_refused",),
    ),
    Mutant(
        "spool_checksum",
        "a damaged record of the spool is believed",
        "tracker/spool.py",
        ' or checksum != b"%08x" % crc32(body)',
        "",
        (f"{_SPOOL}test_a_line_that_is_not_whole_is_no_record",),
    ),
    Mutant(
        "torn_line",
        "a write that failed leaves half a line",
        "tracker/spool.py",
        "            os.ftruncate(descriptor, size)\n",
        "",
        (f"{_SPOOL}test_a_full_disk_keeps_what_was_kept_and_says_what_was_not",),
    ),
    Mutant(
        "spool_in_order",
        "segments of the spool are drained in any order",
        "tracker/spool.py",
        "segment = min(self._stored, key=lambda path: path.stat().st_mtime_ns)",
        "segment = max(self._stored, key=lambda path: path.stat().st_mtime_ns)",
        (f"{_SPOOL}test_a_spool_in_many_segments_comes_out_in_order",),
    ),
    Mutant(
        "full_disk_of_logs",
        "who cannot write that the disk is full dies of it",
        "schemas/logs.py",
        "cast(TextIO, _Patient(stream))",
        "stream",
        ("tests/schemas/test_logs.py::test_a_full_disk_stops_nobody_who_logs",),
    ),
    # Evidence
    Mutant(
        "replay_idempotence",
        "a touch that was applied though its reply was lost is applied again",
        "tracker/append_clicks.lua",
        "known = string.find(state, string.sub(touch, -32), 1, true)",
        "known = false",
        (f"{_APPEND}test_a_replay_of_what_was_applied_changes_no_state",),
    ),
    Mutant(
        "late_clicks",
        "sales are not decided again when a spool brings an older click",
        "tracker/append_clicks.lua",
        "is_late[click], lates = true, lates + 1",
        "lates = lates",
        (f"{_APPEND}test_a_replay_of_what_was_not_applied_is_told_to_the_worker",),
    ),
    Mutant(
        "whose_sale_it_is",
        "a sale that is moved to its click is nobody's browser's any more",
        "tracker/report_steps.py",
        "claim = claim.moved_to(last)",
        "claim = claim._replace(ts=last)",
        ("tests/tracker/test_touches_of_sales.py::test_a_sale_that_is_moved_to_its_click_keeps_its_visitor",),
    ),
    Mutant(
        "gap_of_touches_elsewhere",
        "evidence of one shard is called incomplete as another's state was lost",
        "attribution/case.py",
        "(has_gap and bool(here))",
        "has_gap",
        ("tests/attribution/test_case.py::test_a_case_is_read_as_the_edge_writes_it",),
    ),
    Mutant(
        "gap",
        "evidence is called complete though state was lost",
        "attribution/case.py",
        "        case.has_gap\n        or case.is_again",
        "        case.is_again",
        ("tests/attribution/test_case.py::test_touches_that_may_not_be_all_are_not_taken_for_it",),
    ),
    Mutant(
        "steady_clock",
        "a worker's clock steps back with the machine's",
        "tracker/app.py",
        "        last = stood_at + (ticks - behind_since) // 2\n",
        "        last = now\n",
        ("tests/tracker/test_clock.py",),
    ),
    # The rule
    Mutant(
        "window_boundary",
        "a window is a millisecond longer",
        "attribution/credit.py",
        "return facts.sale.ts - touch.ts >= _window_of(touch, affiliate, facts)",
        "return facts.sale.ts - touch.ts > _window_of(touch, affiliate, facts)",
        (f"{_CREDIT}test_a_window_holds_the_sale_s_millisecond_and_not_its_own_last",),
    ),
    Mutant(
        "after_sale",
        "a click after the sale earns",
        "attribution/credit.py",
        "return touch.ts > facts.sale.ts\n",
        "return False\n",
        ("tests/attribution/test_cases.py",),
    ),
    Mutant(
        "last_cookie",
        "the first cookie earns, whatever the terms say",
        "attribution/credit.py",
        "return of_kind[RANKINGS[facts.terms.rule].place]",
        "return of_kind[0]",
        ("tests/attribution/test_cases.py",),
    ),
    # Strangers
    Mutant(
        "opened_key",
        "a key that has opened opens for ever",
        "tracker/authorization.py",
        "            self._opened.clear()\n",
        "",
        ("tests/tracker/test_authorization.py::test_a_key_that_has_opened_opens_until_something_changes",),
    ),
    Mutant(
        "host_check",
        "a deep link leads anywhere",
        "tracker/deep_links.py",
        "return parsed.href if _is_listed(parsed, rules) else None",
        "return parsed.href",
        ("tests/tracker/test_destination.py::test_deep_links_that_are_refused",),
    ),
    Mutant(
        "click_id_tag",
        "an invented click id, or one of another program, is believed",
        "tracker/click_id.py",
        "if key is None or not compare_digest(key.tag(raw[1:17], program.encode()), raw[17:]):",
        "if key is None:",
        ("tests/tracker/test_click_id.py::test_an_id_of_another_program_is_nobodys",),
    ),
    Mutant(
        "navigation",
        "a click by an image or a frame earns",
        "tracker/filters.py",
        'return (not sec_fetch_mode or sec_fetch_mode == b"navigate") and (',
        "return True or (",
        ("tests/tracker/test_filters.py::test_only_a_followed_link_is_a_navigation",),
    ),
    Mutant(
        "revoked_key",
        "a key that was revoked opens",
        "schemas/api_keys.py",
        'record["sha256"] if record and record["status"] == "active" else',
        'record["sha256"] if record else',
        ("tests/schemas/test_api_keys.py::test_a_removed_key_opens_nothing",),
    ),
    Mutant(
        "addresses_of_a_key",
        "a key with a list of addresses opens from everywhere",
        "tracker/authorization.py",
        "if addresses and not filters.is_within(self.client_address(sender), tuple(addresses)):",
        "if False:",
        ("tests/tracker/test_authorization.py::test_a_key_with_addresses_opens_from_them_alone",),
    ),
    Mutant(
        "age_of_a_signature",
        "a signature is good for ever",
        "tracker/authorization.py",
        "if signature is not None and not signature.is_current(self._clock()):",
        "if False:",
        ("tests/tracker/test_authorization.py::test_a_signature_of_another_time_is_told_so_whatever_else_is_wrong",),
    ),
    Mutant(
        "signing_key_known",
        "a signature by a key that is not there, or was revoked, is held against a secret that anybody knows",
        "tracker/authorization.py",
        "return record if is_right and secret is not None else None",
        "return record if is_right else None",
        ("tests/tracker/test_authorization.py::test_what_nobodys_secret_signs_is_nobodys",),
    ),
)
