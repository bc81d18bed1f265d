-- Counts the primes below two million with a sieve.
local limit = 2000000
local composite = {}
local count = 0
for n = 2, limit do
  if not composite[n] then
    count = count + 1
    for multiple = n * n, limit, n do
      composite[multiple] = true
    end
  end
end
print(string.format("%s: %d primes below %d", _VERSION, count, limit))
