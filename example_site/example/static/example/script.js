/** Mark the page as one with scripts, before it is drawn: texts for readers without scripts are then not shown. */
document.documentElement.classList.add('has-scripts');
