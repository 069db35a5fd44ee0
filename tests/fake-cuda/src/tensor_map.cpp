// cuTensorMapEncodeTiled, with the rules that the driver's manual gives, for matrices.
#include "tensor_map.hpp"

#include <string.h>

#include "driver.hpp"

using namespace fake;

// Bytes of an element, by CUtensorMapDataType: 8- to 64-bit integers, halves, floats, doubles, bf16.
static const u32 ELEMENT[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};

static const char* refuse(const MapFields& map, const u32* element_strides, u32 interleave) {
    const u32 row = map.box_columns * map.element;
    if (map.start % 16 != 0) return "the matrix does not start at a multiple of 16 bytes";
    if (map.stride % 16 != 0) return "its rows are not a multiple of 16 bytes apart";
    if (map.columns == 0 || map.rows == 0) return "it has no elements";
    if (map.columns * map.element > map.stride) return "its rows overlap";
    if (!map.box_columns || !map.box_rows) return "an empty box";
    if (map.box_columns > 256 || map.box_rows > 256) return "more than 256 elements along the box";
    if (row % 16 != 0) return "a row of the box is not a multiple of 16 bytes";
    if (map.swizzle > 3) return "an unknown swizzle";
    if (map.swizzle && row > 16u << map.swizzle) return "a row of the box exceeds the swizzle";
    if (element_strides[0] != 1 || element_strides[1] != 1) return "elements are skipped";
    if (interleave != 0) return "interleaved layouts are not supported here";
    return nullptr;
}

FAKE_CU cuTensorMapEncodeTiled(void* out, int type, u32 rank, void* start, const u64* extent,
                               const u64* stride, const u32* box, const u32* element_strides,
                               int interleave, int swizzle, int, int) {
    FAKE_NEED_DEVICE();
    if (reinterpret_cast<u64>(out) % 64 != 0) {
        report(device, 0, "cuTensorMapEncodeTiled: the map is not at a multiple of 64 bytes");
        return INVALID_VALUE;
    }
    if (rank != 2 || type < 0 || type > 9) return NOT_SUPPORTED;
    MapFields map;
    memset(&map, 0, sizeof map);
    map.magic = MAP_MAGIC;
    map.start = reinterpret_cast<u64>(start);
    map.columns = extent[0];
    map.rows = extent[1];
    map.stride = stride[0];
    map.box_columns = box[0];
    map.box_rows = box[1];
    map.element = ELEMENT[type];
    map.swizzle = (u32)swizzle;
    if (const char* why = refuse(map, element_strides, (u32)interleave)) {
        report(device, 0, std::string("cuTensorMapEncodeTiled: ") + why);
        return INVALID_VALUE;
    }
    const u64 bytes = (map.rows - 1) * map.stride + map.columns * map.element;
    if (int code = check_range(device, map.start, bytes, "cuTensorMapEncodeTiled")) return code;
    memset(out, 0, 128);
    memcpy(out, &map, sizeof map);
    return SUCCESS;
}
