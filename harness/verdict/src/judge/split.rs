//! Being written.

use super::{Assessment, Context};
use crate::question::SplitQuestion;

pub(crate) fn expectation(question: &SplitQuestion) -> String {
    question.ledger.clone()
}

pub(crate) fn assess(_: &SplitQuestion, _: &Context<'_>) -> Assessment {
    Assessment::open("not judged yet")
}
