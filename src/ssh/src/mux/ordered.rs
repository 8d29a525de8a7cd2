//! Answers that have to leave in the order of the questions.

use std::collections::VecDeque;

/// The questions that have no answer yet, and the answers that wait for an earlier one.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    first: u64,
    answers: VecDeque<Option<T>>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self { first: 0, answers: VecDeque::new() }
    }
}

impl<T> Ordered<T> {
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// One more question; its number.
    pub(super) fn ask(&mut self) -> u64 {
        self.answers.push_back(None);
        self.first + self.answers.len() as u64 - 1
    }

    /// The answer to a question; a second one is ignored.
    pub(super) fn answer(&mut self, question: u64, answer: T) {
        let place = question.checked_sub(self.first).and_then(|n| usize::try_from(n).ok());
        if let Some(place) = place.and_then(|n| self.answers.get_mut(n))
            && place.is_none()
        {
            *place = Some(answer);
        }
    }

    /// The next answer that may leave.
    pub(super) fn pop(&mut self) -> Option<T> {
        if !matches!(self.answers.front(), Some(Some(_))) {
            return None;
        }
        self.first += 1;
        self.answers.pop_front().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_the_questions() {
        let mut ordered = Ordered::default();
        let (a, b, c) = (ordered.ask(), ordered.ask(), ordered.ask());
        ordered.answer(c, 'c');
        ordered.answer(b, 'b');
        assert_eq!(ordered.pop(), None);
        ordered.answer(a, 'a');
        ordered.answer(a, 'x');
        assert_eq!(std::iter::from_fn(|| ordered.pop()).collect::<String>(), "abc");
        let d = ordered.ask();
        ordered.answer(b, 'x');
        assert_eq!(ordered.pop(), None);
        ordered.answer(d, 'd');
        assert_eq!(ordered.pop(), Some('d'));
        assert_eq!(ordered.len(), 0);
    }
}
