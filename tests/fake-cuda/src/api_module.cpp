// Images and launches. An image is a host library made from a kernel file; anything else is refused
// as a driver would refuse it.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.hpp"

using namespace fake;

namespace {

struct Module {
    void* library = nullptr;
    int file = -1;  // open as long as the library: the loader knows libraries by their paths
    const Entry* entries = nullptr;
    u32 count = 0;
    std::vector<u64> globals;
    std::vector<void*> functions;
};

// The image comes without its length; the table of sections, which ends the file, tells.
size_t elf_bytes(const u8* image) {
    Elf64_Ehdr head;
    memcpy(&head, image, sizeof head);
    size_t end = head.e_shoff + (size_t)head.e_shnum * head.e_shentsize;
    for (u32 i = 0; i < head.e_shnum; ++i) {
        Elf64_Shdr section;
        memcpy(&section, image + head.e_shoff + i * sizeof section, sizeof section);
        const size_t last = section.sh_offset + section.sh_size;
        if (section.sh_type != SHT_NOBITS && last > end) end = last;
    }
    return end;
}

int kind(const u8* image) {
    static const u8 fatbin[] = {0x50, 0xed, 0x55, 0xba};
    if (memcmp(image, fatbin, 4) == 0) return NO_BINARY_FOR_GPU;
    if (memcmp(image, ELFMAG, SELFMAG) != 0) return INVALID_IMAGE;
    Elf64_Ehdr head;
    memcpy(&head, image, sizeof head);
#if defined(__x86_64__)
    const int here = EM_X86_64;
#else
    const int here = EM_AARCH64;
#endif
    return head.e_machine == here && head.e_type == ET_DYN ? SUCCESS : NO_BINARY_FOR_GPU;
}

#if FAKE_ASAN || FAKE_TSAN
std::vector<std::string>& written_files() {
    static auto* all = new std::vector<std::string>;
    return *all;
}
#endif

// The sanitizers name source lines only if the library is a file they can open later.
int make_file(char* path, size_t room) {
#if FAKE_ASAN || FAKE_TSAN
    const char* folder = getenv("TMPDIR");
    snprintf(path, room, "%s/fake-cuda-XXXXXX", folder ? folder : "/tmp");
    const int file = mkstemp(path);
    std::lock_guard<std::mutex> guard(state().lock);
    if (written_files().empty()) {
        atexit([] {
            for (const std::string& name : written_files()) unlink(name.c_str());
        });
    }
    written_files().push_back(path);
    return file;
#else
    const int file = memfd_create("fake-cuda-image", MFD_CLOEXEC);
    snprintf(path, room, "/proc/self/fd/%d", file);
    return file;
#endif
}

void* open_library(const u8* image, size_t bytes, int& file) {
    char path[256];
    file = make_file(path, sizeof path);
    if (file < 0) return nullptr;
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n = write(file, image + done, bytes - done);
        if (n <= 0) break;
        done += (size_t)n;
    }
    void* library = done == bytes ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!library) {
        report(nullptr, 0, std::string("an image does not load: ") + dlerror());
        close(file);
    }
    return library;
}

bool live(std::set<void*>& handles, void* handle) {
    std::lock_guard<std::mutex> guard(state().lock);
    return handles.count(handle) > 0;
}

}  // namespace

FAKE_CU cuModuleLoadData(void** out, const void* image) {
    FAKE_NEED_DEVICE();
    const u8* bytes = static_cast<const u8*>(image);
    if (int code = kind(bytes)) return code;
    auto module = std::make_unique<Module>();
    module->library = open_library(bytes, elf_bytes(bytes), module->file);
    if (!module->library) return INVALID_IMAGE;
    const void* entries = dlsym(module->library, "fakecuda_entries");
    const void* count = dlsym(module->library, "fakecuda_entry_count");
    if (!entries || !count) return NO_BINARY_FOR_GPU;
    module->entries = static_cast<const Entry*>(entries);
    module->count = *static_cast<const u32*>(count);
    std::lock_guard<std::mutex> guard(state().lock);
    state().modules.insert(module.get());
    *out = module.release();
    return SUCCESS;
}
FAKE_CU cuModuleLoadDataEx(void** out, const void* image, unsigned, int*, void**) {
    return cuModuleLoadData(out, image);
}

FAKE_CU cuModuleLoad(void** out, const char* path) {
    FILE* file = fopen(path, "rb");
    if (!file) return FILE_NOT_FOUND;
    std::vector<u8> bytes;
    u8 part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) {
        bytes.insert(bytes.end(), part, part + n);
    }
    fclose(file);
    bytes.resize(bytes.size() + sizeof(Elf64_Ehdr));  // a short file is still one to look at
    return cuModuleLoadData(out, bytes.data());
}

FAKE_CU cuModuleUnload(void* handle) {
    FAKE_NEED_DEVICE();
    if (!live(state().modules, handle)) return INVALID_HANDLE;
    drain(device);
    std::unique_ptr<Module> module(static_cast<Module*>(handle));
    for (u64 global : module->globals) unlend(global);
    std::lock_guard<std::mutex> guard(state().lock);
    state().modules.erase(handle);
    for (void* function : module->functions) {
        state().functions.erase(function);
        delete static_cast<Function*>(function);
    }
    dlclose(module->library);
    close(module->file);
    return SUCCESS;
}

FAKE_CU cuModuleGetFunction(void** out, void* handle, const char* name) {
    FAKE_NEED_DEVICE();
    if (!live(state().modules, handle)) return INVALID_HANDLE;
    Module& module = *static_cast<Module*>(handle);
    for (u32 i = 0; i < module.count; ++i) {
        if (strcmp(module.entries[i].name, name) != 0) continue;
        auto function = std::make_unique<Function>();
        function->entry = &module.entries[i];
        const void* published = dlsym(module.library, (std::string(name) + "_published").c_str());
        if (published) function->threads = static_cast<const u32*>(published)[1];
        std::lock_guard<std::mutex> guard(state().lock);
        state().functions.insert(function.get());
        module.functions.push_back(function.get());
        *out = function.release();
        return SUCCESS;
    }
    return NOT_FOUND;
}

FAKE_CU cuModuleGetGlobal_v2(u64* out, size_t* bytes, void* handle, const char* name) {
    FAKE_NEED_DEVICE();
    if (!live(state().modules, handle)) return INVALID_HANDLE;
    Module& module = *static_cast<Module*>(handle);
    void* at = dlsym(module.library, name);
    Dl_info info;
    const ElfW(Sym)* symbol = nullptr;
    if (!at || !dladdr1(at, &info, (void**)&symbol, RTLD_DL_SYMENT) || !symbol) return NOT_FOUND;
    if (out) *out = reinterpret_cast<u64>(at);
    if (bytes) *bytes = symbol->st_size;
    lend(device, reinterpret_cast<u64>(at), symbol->st_size);
    std::lock_guard<std::mutex> guard(state().lock);
    module.globals.push_back(reinterpret_cast<u64>(at));
    return SUCCESS;
}

// --- Functions ---

Function* fake::function_of(void* handle) {
    return live(state().functions, handle) ? static_cast<Function*>(handle) : nullptr;
}

FAKE_CU cuFuncGetAttribute(int* out, int number, void* handle) {
    const Function* function = function_of(handle);
    if (!function) return INVALID_HANDLE;
    *out = 0;
    if (number == 0) *out = (int)function->threads;
    if (number == 4) *out = 32;                     // registers
    if (number == 5 || number == 6) *out = state().settings.major * 10 + state().settings.minor;
    if (number == 8) *out = (int)(function->dynamic ? function->dynamic : SHARED_STATIC);
    return SUCCESS;
}

FAKE_CU cuFuncSetAttribute(void* handle, int number, int value) {
    Function* function = function_of(handle);
    if (!function) return INVALID_HANDLE;
    if (number == 8) {
        if (value < 0 || (u32)value > shared_most()) return INVALID_VALUE;
        function->dynamic = (u32)value;
    }
    return SUCCESS;
}
FAKE_CU cuFuncSetCacheConfig(void* handle, int) {
    return function_of(handle) ? SUCCESS : INVALID_HANDLE;
}

FAKE_CU cuFuncGetParamInfo(void* handle, size_t index, size_t* offset, size_t* bytes) {
    const Function* function = function_of(handle);
    if (!function) return INVALID_HANDLE;
    const Entry& entry = *function->entry;
    if (index >= entry.count) return INVALID_VALUE;
    size_t at = 0;
    for (size_t i = 0;; ++i) {
        at = (at + entry.alignments[i] - 1) / entry.alignments[i] * entry.alignments[i];
        if (i == index) break;
        at += entry.sizes[i];
    }
    *offset = at;
    if (bytes) *bytes = entry.sizes[index];
    return SUCCESS;
}

FAKE_CU cuOccupancyMaxActiveBlocksPerMultiprocessor(int* out, void* handle, int threads,
                                                    size_t dynamic) {
    if (!function_of(handle) || threads <= 0) return INVALID_VALUE;
    const int by_threads = 2048 / threads;
    const int by_shared = (int)(228 * 1024 / (dynamic + 1024));
    *out = by_threads < by_shared ? by_threads : by_shared;
    if (*out > 32) *out = 32;
    return SUCCESS;
}
FAKE_CU cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* out, void* handle, int threads,
                                                             size_t dynamic, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(out, handle, threads, dynamic);
}
