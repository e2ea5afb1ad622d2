/* config_order.h: what starts after what, as `after:` and `requires:` name it. */
#ifndef HASUP_SUPERVISOR_CONFIG_ORDER_H
#define HASUP_SUPERVISOR_CONFIG_ORDER_H

#include "supervisor/config_tree.h"

/* Names that are nobody's, and cycles, are errors with their place in the file. */
void config_order_check(const struct config *config, const struct node *root,
                        struct config_errors *errors);

#endif
