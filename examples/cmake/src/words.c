#include "words.h"

const char *greeting(void) { return GREETING ", world"; }
