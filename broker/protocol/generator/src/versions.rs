//! Ranges of versions as descriptors write them: `3-13`, `9+`, `1`, `none`.

/// An inclusive, possibly empty range; an open end is `i16::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) const NONE: Versions = Versions { min: 0, max: -1 };

    pub(crate) fn parse(text: &str) -> Result<Versions, String> {
        let number = |text: &str| {
            text.parse::<i16>()
                .map_err(|_| format!("{text:?} is not a version"))
        };
        if text == "none" {
            Ok(Versions::NONE)
        } else if let Some(min) = text.strip_suffix('+') {
            Ok(Versions {
                min: number(min)?,
                max: i16::MAX,
            })
        } else if let Some((min, max)) = text.split_once('-') {
            Ok(Versions {
                min: number(min)?,
                max: number(max)?,
            })
        } else {
            let only = number(text)?;
            Ok(Versions {
                min: only,
                max: only,
            })
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.min > self.max
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub(crate) fn and(self, other: Versions) -> Versions {
        let both = Versions {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        };
        if both.is_empty() {
            Versions::NONE
        } else {
            both
        }
    }

    /// The least range that holds both.
    pub(crate) fn hull(self, other: Versions) -> Versions {
        if self.is_empty() {
            other
        } else if other.is_empty() {
            self
        } else {
            Versions {
                min: self.min.min(other.min),
                max: self.max.max(other.max),
            }
        }
    }

    /// The test that tells, of a `version` known to lie in `outer`, whether it lies in `self`;
    /// `None` if it always does.
    pub(crate) fn condition(self, outer: Versions) -> Option<String> {
        match (self.min > outer.min, self.max < outer.max) {
            (false, false) => None,
            (true, false) => Some(format!("version >= {}", self.min)),
            (false, true) => Some(format!("version <= {}", self.max)),
            (true, true) if self.min == self.max => Some(format!("version == {}", self.min)),
            (true, true) => Some(format!("({}..={}).contains(&version)", self.min, self.max)),
        }
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            versions if versions.is_empty() => f.write_str("none"),
            Versions { min, max } if min == max => write!(f, "{min}"),
            Versions { min, max } => write!(f, "{min}-{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_no_more_than_the_outer_range_leaves_open() {
        let check = |inner: &str, outer: &str, expected: Option<&str>| {
            let (inner, outer) = (Versions::parse(inner), Versions::parse(outer));
            let (inner, outer) = (inner.expect("inner"), outer.expect("outer"));
            assert_eq!(inner.and(outer).condition(outer).as_deref(), expected);
        };
        check("0+", "3-13", None);
        check("9+", "3-13", Some("version >= 9"));
        check("0-12", "3-13", Some("version <= 12"));
        check("5-7", "3-13", Some("(5..=7).contains(&version)"));
        check("1", "0-4", Some("version == 1"));
    }

    #[test]
    fn bad_ranges_are_refused() {
        for text in ["", "+", "1-", "x", "1..2"] {
            assert!(Versions::parse(text).is_err(), "{text}");
        }
    }
}
