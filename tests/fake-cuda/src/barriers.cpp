#include "block.hpp"
namespace fake {
bool deliver_bulk(Block&) { return false; }
}
