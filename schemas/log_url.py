"""`redis.url` as clients take it. Of a cluster several servers may be named, parted by commas: any one knows the
others, and one may be away when we start. Called by whoever connects to the log, and by the settings."""

from urllib.parse import urlsplit


def of_cluster(url: str) -> tuple[str, list[tuple[str, int]]]:
    """Of a cluster's URL the first server as redis-py takes it, and host and port of the others."""
    first, *others = (one.replace("+cluster", "") for one in server_urls(url))
    places = [urlsplit(one) for one in others]
    return first, [(place.hostname or "localhost", place.port or 6379) for place in places]


def server_urls(url: str) -> list[str]:
    """The URL of each server that is named, user, password and options with each."""
    scheme, _, rest = url.partition("://")
    if "+cluster" not in scheme:
        return [url]
    place, slash, path = rest.partition("/")
    user, at, hosts = place.rpartition("@")
    return [f"{scheme}://{user}{at}{host}{slash}{path}" for host in hosts.split(",")]
