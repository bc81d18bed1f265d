#ifndef WORDS_H
#define WORDS_H
int words_in(const char *line);
#endif
