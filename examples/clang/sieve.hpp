#pragma once
#include <vector>
std::vector<int> primes_below(int limit);
