#include "block.hpp"
namespace fake {
void check_products(Thread&) {}
}
