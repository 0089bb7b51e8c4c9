//! The binary; everything is in the library.

fn main() -> std::process::ExitCode {
    s3_mirror::cli::run()
}
