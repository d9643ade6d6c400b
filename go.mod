module flagger.app/flagger

go 1.26
