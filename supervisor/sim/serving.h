/*
 * serving.h: how well the core serves, in virtual time: batching beside what others do, and
 * overload.  The same figures each time.
 */
#ifndef HASUP_SIM_SERVING_H
#define HASUP_SIM_SERVING_H

#include <stdbool.h>

/* Prints the tables; false: something that the docs claim does not hold. */
bool serving_report(void);

#endif
