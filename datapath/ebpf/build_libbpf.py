"""Compile ``datapath/ebpf/_libbpf.abi3.so``: the libbpf calls that ``datapath.ebpf.libbpf`` makes.

``python -m datapath.ebpf.build_libbpf`` builds it if it is older than this file (``--force``: always).
API mode of cffi, linked against the system's libbpf (1.1 or later): the C compiler checks each declaration
against the headers, and importing costs a millisecond. Debian: gcc, python3-dev, libbpf-dev.

The C part holds one thing that cannot be in Python: libbpf reports through a printf-like callback, so it is
formatted there, into a buffer per thread.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import cffi

_HERE = Path(__file__).resolve().parent
_MODULE = "_libbpf"

_DECLARATIONS = """
typedef uint32_t __u32; typedef uint64_t __u64; typedef uint8_t __u8;
typedef uint16_t __u16; typedef int32_t __s32;

struct bpf_object; struct bpf_program; struct bpf_map; struct btf;
struct bpf_object_open_opts { size_t sz; ...; };
struct bpf_object *bpf_object__open_file(const char *path, const struct bpf_object_open_opts *opts);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct btf *bpf_object__btf(const struct bpf_object *obj);
const void *btf__raw_data(const struct btf *btf, __u32 *size);
struct btf *btf__load_from_kernel_by_id(__u32 id);
void btf__free(struct btf *btf);

struct bpf_program *bpf_object__next_program(const struct bpf_object *obj, struct bpf_program *prog);
const char *bpf_program__name(const struct bpf_program *prog);
int bpf_program__fd(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, bool autoload);

struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);
const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
__u32 bpf_map__type(const struct bpf_map *map);
__u32 bpf_map__key_size(const struct bpf_map *map);
__u32 bpf_map__value_size(const struct bpf_map *map);
__u32 bpf_map__max_entries(const struct bpf_map *map);
__u32 bpf_map__btf_key_type_id(const struct bpf_map *map);
__u32 bpf_map__btf_value_type_id(const struct bpf_map *map);
int bpf_map__set_max_entries(struct bpf_map *map, __u32 max_entries);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);
int bpf_map__set_initial_value(struct bpf_map *map, const void *data, size_t size);
const void *bpf_map__initial_value(struct bpf_map *map, size_t *size);

struct bpf_map_info { __u32 type; __u32 id; __u32 key_size; __u32 value_size; __u32 max_entries;
    char name[16]; __u32 btf_id; __u32 btf_key_type_id; __u32 btf_value_type_id; ...; };
int bpf_obj_get_info_by_fd(int fd, void *info, __u32 *info_len);
int bpf_obj_pin(int fd, const char *path);
int bpf_obj_get(const char *path);
int libbpf_num_possible_cpus(void);
const char *libbpf_version_string(void);
enum bpf_prog_type { BPF_PROG_TYPE_SCHED_CLS, ... };
enum bpf_func_id { __BPF_FUNC_MAX_ID, ... };
int libbpf_probe_bpf_helper(enum bpf_prog_type prog_type, enum bpf_func_id helper_id, const void *opts);

#define BPF_ANY ...
#define BPF_NOEXIST ...
#define BPF_EXIST ...
#define BPF_MAP_TYPE_PERCPU_HASH ...
#define BPF_MAP_TYPE_PERCPU_ARRAY ...
#define BPF_MAP_TYPE_LRU_PERCPU_HASH ...
enum bpf_map_type { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH, ... };
#define BPF_F_NO_PREALLOC ...
struct bpf_map_create_opts { size_t sz; __u32 map_flags; ...; };
int bpf_map_create(enum bpf_map_type map_type, const char *map_name, __u32 key_size, __u32 value_size,
                   __u32 max_entries, const struct bpf_map_create_opts *opts);
int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);
struct bpf_map_batch_opts { size_t sz; __u64 elem_flags; __u64 flags; };
int bpf_map_update_batch(int fd, const void *keys, const void *values, __u32 *count,
                         const struct bpf_map_batch_opts *opts);
int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values, __u32 *count,
                         const struct bpf_map_batch_opts *opts);
int bpf_map_delete_batch(int fd, const void *keys, __u32 *count, const struct bpf_map_batch_opts *opts);

struct bpf_test_run_opts { size_t sz; const void *data_in; void *data_out; __u32 data_size_in;
    __u32 data_size_out; const void *ctx_in; void *ctx_out; __u32 ctx_size_in; __u32 ctx_size_out;
    __u32 retval; int repeat; __u32 duration; __u32 flags; __u32 cpu; __u32 batch_size; };
int bpf_prog_test_run_opts(int prog_fd, struct bpf_test_run_opts *opts);
struct __sk_buff { __u32 len; __u32 mark; __u32 ingress_ifindex; __u32 ifindex; __u32 priority; __u32 cb[5];
    __u32 gso_segs; __u32 gso_size; ...; };

enum bpf_tc_attach_point { BPF_TC_INGRESS, BPF_TC_EGRESS, BPF_TC_CUSTOM, ... };
#define BPF_TC_F_REPLACE ...
struct bpf_tc_hook { size_t sz; int ifindex; enum bpf_tc_attach_point attach_point; __u32 parent; ...; };
struct bpf_tc_opts { size_t sz; int prog_fd; __u32 flags; __u32 prog_id; __u32 handle; __u32 priority; ...; };
int bpf_tc_hook_create(struct bpf_tc_hook *hook);
int bpf_tc_hook_destroy(struct bpf_tc_hook *hook);
int bpf_tc_attach(const struct bpf_tc_hook *hook, struct bpf_tc_opts *opts);
int bpf_tc_detach(const struct bpf_tc_hook *hook, const struct bpf_tc_opts *opts);
int bpf_tc_query(const struct bpf_tc_hook *hook, struct bpf_tc_opts *opts);

void report_install(void);
void report_clear(void);
const char *report_text(void);
"""

_SOURCE = r"""
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* The end of what libbpf reported to this thread since report_clear(). A verifier's log comes as one message
 * of up to megabytes, and the reason of the refusal stands at its end. */
static __thread char report[1 << 14];
static __thread size_t report_used;

static void report_keep(const char *text, size_t length)
{
    size_t room = sizeof(report) - 1, old;

    if (length > room) {
        text += length - room;
        length = room;
    }
    old = report_used < room - length ? report_used : room - length;
    memmove(report, report + report_used - old, old);
    memcpy(report + old, text, length);
    report_used = old + length;
    report[report_used] = 0;
}

static int report_append(enum libbpf_print_level level, const char *format, va_list arguments)
{
    char *text;
    int length;

    if (level == LIBBPF_DEBUG)
        return 0;
    length = vasprintf(&text, format, arguments);
    if (length < 0)
        return 0;
    report_keep(text, length);
    free(text);
    return 0;
}

static void report_install(void)
{
    libbpf_set_print(report_append);
}

static void report_clear(void)
{
    report_used = 0;
    report[0] = 0;
}

static const char *report_text(void)
{
    return report;
}
"""


def build(target: Path = _HERE) -> Path:
    """Compile the extension into ``target`` and return its path; replaces an older one in one step."""
    builder = cffi.FFI()
    builder.cdef(_DECLARATIONS)
    builder.set_source(
        f"datapath.ebpf.{_MODULE}",
        _SOURCE,
        libraries=["bpf"],
        extra_compile_args=["-O2"],
        extra_link_args=["-s"],
        py_limited_api=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(builder.compile(tmpdir=scratch))
        staged = target / f".{made.name}.new"
        shutil.copy(made, staged)
        return staged.rename(target / made.name)


def main(arguments: list[str]) -> int:
    built = _HERE / f"{_MODULE}.abi3.so"
    fresh = built.exists() and built.stat().st_mtime >= Path(__file__).stat().st_mtime
    if fresh and "--force" not in arguments:
        return 0
    print(f"built {build()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
