"""Prime numbers."""
from .sieve import below


def twins(primes):
    """Neighbours that are two apart."""
    return [[p, q] for p, q in zip(primes, primes[1:]) if q - p == 2]


__all__ = ["below", "twins"]
