/* A stand-in for libnvidia-ml.so.1: two GPUs whose numbers are known. The first has used 1000 J when
   it is first asked, and 30 J more at each further look; the second has no energy counter. Signatures
   are those of nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int number; unsigned long long looks; } Device;
static Device devices[2] = {{0, 0}, {1, 0}};
static int started = 0;

int nvmlInit_v2(void) {
    if (getenv("FAKE_NVML_BROKEN")) return 9; /* NVML_ERROR_DRIVER_NOT_LOADED */
    started++;
    return 0;
}
int nvmlShutdown(void) { return started-- > 0 ? 0 : 1; }

/* Any GPU- name is known; its last digit says which one it is. */
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
    size_t length = strlen(uuid);
    if (!started || strncmp(uuid, "GPU-", 4) || length < 5) return 6; /* NVML_ERROR_NOT_FOUND */
    *device = &devices[(uuid[length - 1] - '0') & 1];
    return 0;
}
int nvmlDeviceGetUtilizationRates(void* d, unsigned int* rates) {
    rates[0] = 87 + ((Device*)d)->number;
    rates[1] = 41;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void* d, unsigned long long* memory) {
    (void)d;
    memory[0] = 1000000; memory[1] = 400000; memory[2] = 600000; /* total, free, used */
    return 0;
}
int nvmlDeviceGetPowerUsage(void* d, unsigned int* milliwatts) {
    (void)d; *milliwatts = 312500; return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void* d, unsigned long long* millijoules) {
    Device* device = d;
    if (device->number == 1) return 3; /* NVML_ERROR_NOT_SUPPORTED */
    *millijoules = 1000000 + 30000 * device->looks++;
    return 0;
}
int nvmlDeviceGetTemperature(void* d, unsigned int sensor, unsigned int* celsius) {
    (void)d; if (sensor != 0) return 2; *celsius = 64; return 0;
}
int nvmlDeviceGetClockInfo(void* d, unsigned int clock, unsigned int* mhz) {
    (void)d; if (clock != 1) return 2; *mhz = 1755; return 0;
}
