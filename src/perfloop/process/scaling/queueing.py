"""How many servers a queue needs, so that who comes waits little.

Erlang's C formula (A. K. Erlang, 1917) gives the probability of having to wait in M/M/c, by the recursion of
his B formula, which is stable for any number of servers. Allen and Cunneen's factor (1978), the mean of the
squared coefficients of variation of arrivals and of service, makes it an approximation of G/G/c: 1 for
Poisson arrivals and exponential service. It assumes a steady rate; what is already waiting is not in it.
"""

from __future__ import annotations


def erlang_c(servers: int, load: float) -> float:
    """The probability that an arrival has to wait; `load` is the rate times the service time, in servers.

    >>> round(erlang_c(2, 1.0), 3)
    0.333
    """
    if load >= servers:
        return 1.0
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = load * blocking / (count + load * blocking)
    ratio = load / servers
    return blocking / (1 - ratio + ratio * blocking)


def mean_wait_s(servers: int, rate_per_s: float, service_s: float, *, variability: float = 1.0) -> float:
    """How long an arrival waits in the mean; infinite where the servers cannot keep up.

    >>> mean_wait_s(1, 0.5, 1.0)
    1.0
    """
    load = rate_per_s * service_s
    if load >= servers:
        return float("inf")
    return variability * erlang_c(servers, load) * service_s / (servers - load)


def servers_for(
    rate_per_s: float, service_s: float, *, wait_s: float, max_utilisation: float, variability: float = 1.0
) -> int:
    """The fewest servers with which the mean wait is at most this, none busier than the utilisation.

    >>> servers_for(100, 0.05, wait_s=0.01, max_utilisation=0.8)
    7
    """
    load = rate_per_s * service_s
    servers = max(1, int(load / max_utilisation))
    while (
        load > max_utilisation * servers
        or mean_wait_s(servers, rate_per_s, service_s, variability=variability) > wait_s
    ):
        servers += 1
    return servers
