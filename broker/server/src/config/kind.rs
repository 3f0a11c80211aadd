//! The types of configuration values, as Kafka's DescribeConfigs numbers them.

use esker_protocol::FixedHashSet;

/// The type of a configuration value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// A 32-bit integer.
    Int,
    /// A 16-bit integer.
    Short,
    /// A 64-bit integer.
    Long,
    /// A floating-point number.
    Double,
    /// Words parted by commas.
    List,
    /// The name of a Java class; without effect here.
    Class,
    /// A secret, never shown.
    Password,
}

impl Kind {
    /// The number of the type in DescribeConfigs.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    /// The value as Kafka writes it back: trimmed, in one spelling, the words of a list once.
    #[must_use]
    pub fn canonical(self, value: &str) -> String {
        let trimmed = value.trim();
        match self {
            Kind::Boolean => trimmed.to_ascii_lowercase(),
            Kind::Int | Kind::Short | Kind::Long => trimmed.trim_start_matches('+').to_owned(),
            Kind::Double => match trimmed.parse::<f64>() {
                Ok(number) if number.abs() < 1e7 => format!("{number:?}"),
                _ => trimmed.to_owned(),
            },
            Kind::List => {
                let mut seen = FixedHashSet::default();
                let words = trimmed.split(',').map(str::trim);
                let words: Vec<&str> = words.filter(|word| seen.insert(*word)).collect();
                words.join(",")
            }
            Kind::String => trimmed.to_owned(),
            Kind::Class | Kind::Password => value.to_owned(),
        }
    }

    /// Checks that `value` is of this type.
    ///
    /// # Errors
    /// What the value should have been.
    pub fn check(self, value: &str) -> Result<(), &'static str> {
        let value = value.trim();
        let (fits, expected) = match self {
            Kind::Boolean => (
                value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
                "Expected value to be either true or false",
            ),
            Kind::Int => (value.parse::<i32>().is_ok(), "Not a number of type INT"),
            Kind::Short => (value.parse::<i16>().is_ok(), "Not a number of type SHORT"),
            Kind::Long => (value.parse::<i64>().is_ok(), "Not a number of type LONG"),
            Kind::Double => (value.parse::<f64>().is_ok(), "Not a number of type DOUBLE"),
            Kind::String | Kind::List | Kind::Class | Kind::Password => (true, ""),
        };
        if fits { Ok(()) } else { Err(expected) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_back_in_one_spelling() {
        for (kind, value, expected) in [
            (Kind::Boolean, " True", "true"),
            (Kind::Long, "+5 ", "5"),
            (Kind::Double, "0.50", "0.5"),
            (Kind::Double, "1", "1.0"),
            (Kind::List, "a , b,a", "a,b"),
            (Kind::List, "", ""),
            (Kind::String, " x y ", "x y"),
        ] {
            assert_eq!(kind.canonical(value), expected, "{value:?}");
        }
    }
}
