"""The servers that a URL of the log names."""

import pytest

from schemas.log_url import server_urls


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("unix:///run/a,b/s", ["unix:///run/a,b/s"]),
        ("redis://u:p,w@a:1/2", ["redis://u:p,w@a:1/2"]),
        ("redis+cluster://a", ["redis+cluster://a"]),
        ("redis+cluster://a:1,b:2", ["redis+cluster://a:1", "redis+cluster://b:2"]),
        (
            "rediss+cluster://u:p,w@a:1,[::1]:2/0",
            ["rediss+cluster://u:p,w@a:1/0", "rediss+cluster://u:p,w@[::1]:2/0"],
        ),
    ],
)
def test_of_a_cluster_several_may_be_named(url: str, servers: list[str]) -> None:
    assert server_urls(url) == servers
