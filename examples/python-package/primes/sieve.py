"""The sieve of Eratosthenes."""


def below(limit):
    """All primes below the limit."""
    candidates = bytearray([1]) * max(limit, 2)
    candidates[0:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if candidates[n]:
            candidates[n * n :: n] = bytes(len(range(n * n, len(candidates), n)))
    return [n for n, prime in enumerate(candidates) if prime and n < limit]
