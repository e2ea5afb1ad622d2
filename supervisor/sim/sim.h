/*
 * sim.h: the core in virtual time, with fake workers, clients, disk and operator, and seeded
 * faults.
 *
 * A run has two phases: safety, with faults on, in which every check must hold after every step;
 * then liveness, with faults off, in which everything must come to a good end.  The same seed gives
 * the same run.
 */
#ifndef HASUP_SIM_SIM_H
#define HASUP_SIM_SIM_H

#include "supervisor/core/core.h"

struct sim_options {
    uint64_t seed;
    hasup_ns duration;    /* of the phase with faults */
    bool trace;           /* every event and action on standard output */
    bool handover;        /* the core is saved now and then, and a loaded one goes on */
    unsigned check_every; /* core_check after every n-th step; 0: never */
};

struct sim_report {
    bool failed;
    char reason[256]; /* what was violated, when */
    uint64_t steps, requests, answered, refused, cancelled, crashes, restores, replays, checkpoints;
    uint64_t deaths; /* of hasupd itself */
    uint64_t recycled;
    uint64_t rollbacks;
    uint64_t swaps, forks;
    uint64_t handovers;
    hasup_ns virtual_time;
};

void sim_run(const struct sim_options *options, struct sim_report *report);

#endif
