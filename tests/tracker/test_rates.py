"""Rates: the click above the limit of its second is told, as is the wrong key above that of its minute; no other."""

from tracker.rates import _NETWORKS_MAX, Rates, WrongKeys

ONE, TWO = "198.51.100.1", "2001:db8::2"
ANN, BEN = b"annannan", b"benbenbe"


def test_the_click_above_the_limit_of_its_address_is_told() -> None:
    rates = Rates(per_address_max=2, per_visitor_max=0)
    assert [rates.exceeded(ONE, ANN, 1000 + n) for n in range(4)] == [False, False, True, True]


def test_addresses_are_counted_apart() -> None:
    rates = Rates(1, 0)
    assert [rates.exceeded(address, None, 0) for address in (ONE, TWO, ONE)] == [False, False, True]


def test_a_new_second_begins_anew() -> None:
    rates = Rates(1, 1)
    assert [rates.exceeded(ONE, ANN, at) for at in (1000, 1999, 2000, 2001)] == [False, True, False, True]


def test_a_visitor_is_counted_over_all_his_addresses() -> None:
    rates = Rates(0, 1)
    assert [rates.exceeded(a, v, 0) for a, v in ((ONE, ANN), (TWO, ANN), (ONE, BEN))] == [False, True, False]


def test_a_click_without_a_visitor_counts_for_its_address_alone() -> None:
    rates = Rates(0, 1)
    assert not any(rates.exceeded(ONE, None, 0) for _ in range(5))


def test_one_limit_is_enough() -> None:
    """The address is above its limit, its visitors are not, and the other way round."""
    rates = Rates(1, 1)
    assert [rates.exceeded(a, v, 0) for a, v in ((ONE, ANN), (ONE, BEN), (TWO, BEN))] == [False, True, True]


def test_a_limit_of_0_is_off() -> None:
    rates = Rates(0, 0)
    assert not any(rates.exceeded(ONE, ANN, 0) for _ in range(1000))


def test_this_machine_is_no_address() -> None:
    """Behind a local proxy all clients would be one."""
    rates = Rates(1, 0)
    assert not any(rates.exceeded(address, None, 0) for address in ("127.0.0.1", "127.8.8.8", "::1") * 3)


def test_memory_is_that_of_one_second() -> None:
    rates = Rates(1, 1)
    for second in range(50):
        for n in range(100):
            rates.exceeded(f"198.51.{second}.{n}", b"%8d" % n, second * 1000)
    assert len(rates._addresses) == len(rates._visitors) == 100


# Wrong keys


def test_the_wrong_key_above_the_limit_of_its_minute_is_told() -> None:
    wrong = WrongKeys(2)
    at = [60_000, 61_000, 119_999, 119_999, 120_000]
    assert [wrong.exceeded(ONE, one) for one in at] == [False, False, True, True, False]


def test_whoever_has_many_addresses_by_ipv6_is_one() -> None:
    wrong = WrongKeys(1)
    addresses = (TWO, "2001:db8::dead:beef", "2001:db8:0:1::2", ONE, f"::ffff:{ONE}")
    assert [wrong.exceeded(address, 0) for address in addresses] == [False, True, False, False, True]


def test_wrong_keys_of_this_machine_are_not_counted_nor_any_with_a_limit_of_0() -> None:
    wrong, off = WrongKeys(1), WrongKeys(0)
    assert not any(wrong.exceeded(address, 0) for address in ("127.0.0.1", "::1") * 5)
    assert not any(off.exceeded(ONE, 0) for _ in range(5))


def test_a_flood_from_everywhere_is_remembered_within_bounds() -> None:
    """What comes from a network known before the flood is still counted apart."""
    wrong = WrongKeys(2)
    wrong.exceeded(ONE, 0)
    told = [wrong.exceeded(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0) for n in range(_NETWORKS_MAX + 100)]
    assert len(wrong._networks) == _NETWORKS_MAX + 1 and told[-1] and not told[0]
    assert [wrong.exceeded(ONE, 0) for _ in range(2)] == [False, True]
