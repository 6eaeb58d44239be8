"""Tells the primes below a number and the twins among them."""
import json
import sys

from primes import below, twins

limit = int(sys.argv[1]) if len(sys.argv) > 1 else 50
found = below(limit)
print(json.dumps({"limit": limit, "count": len(found), "twins": twins(found)}))
