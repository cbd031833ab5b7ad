//! Debian's kernel releases, such as `6.1.0-56-cloud-amd64`, from the packages' names.

use std::cmp::Ordering;
use std::fmt;

/// The flavour of Debian's kernel for virtual machines: small, with a guest's drivers built in.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel's release, as in `uname -r`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release(String);

/// A choice of kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Series {
    /// The newest kernel of this series.
    Of(u64, u64),
    /// The newest kernel of all.
    Newest,
}

/// The kernels of `cargo xtask test --kernels`: the oldest one that `lb` supports, Debian's current
/// long-term support kernel, and the newest one.
pub(super) const SERIES: [Series; 3] = [Series::Of(6, 1), Series::Of(6, 12), Series::Newest];

impl Series {
    /// The newest kernel of this choice among the packages with these names.
    pub(super) fn choose<'a>(self, packages: impl IntoIterator<Item = &'a str>) -> Option<Release> {
        packages.into_iter().filter_map(Release::of_image).filter(|release| self.holds(release)).max()
    }

    /// What users call it by: `6.1`.
    pub(super) fn word(self) -> String {
        match self {
            Self::Of(major, minor) => format!("{major}.{minor}"),
            Self::Newest => "newest".to_owned(),
        }
    }

    fn holds(self, release: &Release) -> bool {
        match self {
            Self::Of(major, minor) => release.numbers().starts_with(&[major, minor]),
            Self::Newest => true,
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(..) => write!(f, "Linux {}", self.word()),
            Self::Newest => f.write_str("the newest Linux"),
        }
    }
}

impl Release {
    /// The release of the package `linux-image-…`. `None`: another package, or a metapackage for
    /// the newest of a series.
    fn of_image(package: &str) -> Option<Self> {
        let release = Self(package.strip_prefix("linux-image-")?.to_owned());
        let is_one =
            release.0.ends_with(FLAVOUR) && release.0.starts_with(|first: char| first.is_ascii_digit());
        (is_one && release.version().split('.').count() >= 3).then_some(release)
    }

    /// The package with the kernel. From 6.19 on that is a separate package, and `linux-image-…` is
    /// empty.
    pub(super) fn package<'a>(&self, packages: impl IntoIterator<Item = &'a str>) -> String {
        self.package_of("binary", packages)
    }

    /// The package with its modules.
    pub(super) fn modules_package<'a>(&self, packages: impl IntoIterator<Item = &'a str>) -> String {
        self.package_of("modules", packages)
    }

    fn package_of<'a>(&self, part: &str, packages: impl IntoIterator<Item = &'a str>) -> String {
        let own = format!("linux-{part}-{}", self.0);
        if packages.into_iter().any(|name| name == own) { own } else { format!("linux-image-{}", self.0) }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn version(&self) -> &str {
        self.0.strip_suffix(FLAVOUR).unwrap_or(&self.0)
    }

    /// `6.12.90+deb12.1` is 6, 12, 90, 12, 1.
    fn numbers(&self) -> Vec<u64> {
        let numbers = self.version().split(|letter: char| !letter.is_ascii_digit());
        numbers.filter_map(|digits| digits.parse().ok()).collect()
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers().cmp(&other.numbers()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the unsorted output of `apt-cache pkgnames linux-`.
    const PACKAGES: &str = "\
linux-image-6.12.90+deb12.1-cloud-amd64
linux-image-6.12-cloud-amd64
linux-image-6.12.90+deb12-cloud-amd64
linux-image-6.1.0-9-cloud-amd64
linux-image-6.1.0-56-cloud-amd64
linux-image-6.1.0-56-amd64
linux-headers-6.1.0-57-cloud-amd64
linux-image-7.3.4+deb13-cloud-amd64
linux-image-7.2.13+deb14-cloud-amd64
linux-binary-7.3.4+deb13-cloud-amd64
linux-modules-7.3.4+deb13-cloud-amd64
linux-image-cloud-amd64
linux-image-6.12.9+deb12-cloud-amd64";

    fn chosen(series: Series) -> Option<String> {
        series.choose(PACKAGES.lines()).map(|release| release.to_string())
    }

    #[test]
    fn the_newest_of_a_series_is_chosen_by_its_numbers() {
        assert_eq!(chosen(Series::Of(6, 1)).as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(chosen(Series::Of(6, 12)).as_deref(), Some("6.12.90+deb12.1-cloud-amd64"));
        assert_eq!(chosen(Series::Newest).as_deref(), Some("7.3.4+deb13-cloud-amd64"));
        assert_eq!(chosen(Series::Of(5, 15)), None);
    }

    #[test]
    fn the_kernel_and_its_modules_are_in_the_packages_that_have_them() {
        let packages = |series: Series| {
            let release = series.choose(PACKAGES.lines()).expect("a kernel of the series");
            [release.package(PACKAGES.lines()), release.modules_package(PACKAGES.lines())]
        };
        assert_eq!(packages(Series::Of(6, 1)), ["linux-image-6.1.0-56-cloud-amd64"; 2]);
        let newest = ["linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"];
        assert_eq!(packages(Series::Newest), newest);
    }
}
