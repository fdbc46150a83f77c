"""Country of an address, by a MaxMind-format file where one is configured."""

from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from console.engine import country_lookup


@pytest.fixture
def database(tmp_path: Path) -> Path:
    writer = MMDBWriter(ip_version=6, database_type="GeoLite2-Country", ipv4_compatible=True)
    writer.insert_network(IPSet(["203.0.113.0/24"]), {"country": {"iso_code": "DE"}})
    writer.insert_network(IPSet(["2001:db8::/48"]), {"registered_country": {"iso_code": "FR"}})
    writer.insert_network(IPSet(["198.51.100.0/24"]), {"continent": {"code": "EU"}})
    writer.to_db_file(str(tmp_path / "countries.mmdb"))
    return tmp_path / "countries.mmdb"


def test_without_a_file_no_country_is_known() -> None:
    assert country_lookup(None)("203.0.113.0") == ""


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("203.0.113.0", "DE"),
        ("2001:db8::", "FR"),
        ("198.51.100.0", ""),
        ("192.0.2.0", ""),
        ("", ""),
        ("no address", ""),
    ],
)
def test_the_truncated_address_is_enough_to_know_the_country(database: Path, address: str, country: str) -> None:
    assert country_lookup(database)(address) == country
