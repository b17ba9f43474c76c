/* Time: monotonic seconds for deadlines. A deadline is a value of pb_now() in the future. */
#ifndef PB_CLOCK_H
#define PB_CLOCK_H

#include <stdint.h>

double pb_now(void);                      /* monotonic clock, seconds */
int pb_remaining_ms(double deadline);     /* until the deadline, rounded up; 0 when it has passed */
int64_t pb_wall_ms(void);                 /* wall clock, milliseconds since 1970 */
void pb_sleep(double seconds);

#endif
