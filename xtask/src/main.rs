//! The project's own commands.

mod ebpf;

fn main() -> anyhow::Result<()> {
    let folder = ebpf::build(std::path::Path::new("."))?;
    println!("{}", folder.display());
    Ok(())
}
