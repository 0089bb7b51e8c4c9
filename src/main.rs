//! The binary; everything is in the library.

fn main() -> std::process::ExitCode {
    keep_some_memory();
    s3_mirror::cli::run()
}

/// Lets glibc keep up to 2 MiB of freed memory at the end of each of its heaps. Of the buffers of large bodies it
/// would give back nearly all at once, to have every page cleared anew with the next: a seventh of what an upload
/// costs that is kept for the mirror.
///
/// It learns that by itself from the first large piece that is freed, and twice its size is what is kept
/// (mallopt(3), `M_MMAP_THRESHOLD`: the dynamic threshold). Elsewhere this does nothing.
fn keep_some_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
}
