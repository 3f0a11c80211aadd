//! The types of configuration values, as Kafka's DescribeConfigs numbers them.

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
